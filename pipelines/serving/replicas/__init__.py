"""What runs in Ray Serve's replicas."""
