"""Minutes of `windows`, rebuilt from the raw events.

`docs/decisions/rebuild.md` tells when, and why it is right whatever fails in between.
"""
