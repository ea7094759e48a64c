"""Files of other tools: one module per format; `pipelines.conversion.kinds` lists them."""
