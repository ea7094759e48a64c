"""Movement of data: decoding, Ray dataflow, ordering, commit, storage."""
