"""Two-stage networks: Faster R-CNN and Cascade R-CNN, and the two-stage joint network."""
