"""The classes that run in Ray Serve's replicas."""
