"""`jde convert`: the tracks of a run as files of other tools."""
