"""Health by progress: committed offsets against ends, over time."""
