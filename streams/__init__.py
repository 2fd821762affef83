"""The Faust agents that turn events into windows."""
