"""Training losses of the two JDE heads, with their assignment of people to cells."""
