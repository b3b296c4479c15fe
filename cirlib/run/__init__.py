"""Training at scale: the loop, its state on disk, the queue, several processes."""
