"""Take a graph apart into graphs that run one after the other: cuts that a user names, and parts that stay in float."""
