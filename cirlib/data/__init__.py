"""What comes from outside: photographs, weights of metrics, the published numbers."""
