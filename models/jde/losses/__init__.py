"""Training losses of anchor-based and anchor-free JDE heads; assignment of people to cells."""
