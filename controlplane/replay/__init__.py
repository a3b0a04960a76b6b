"""A trace through the real decision, against a simulated fleet."""
