"""`jde bench ablation`: the paper's Table 2, trained and measured."""
