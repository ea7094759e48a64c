"""`jde data convert`: public data sets, in the layouts of their downloads, as lists to train on."""
