"""Window arithmetic, pure: panes, groupings, sketches, and the blocks that hold them."""
