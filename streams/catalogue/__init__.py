"""What is counted, stated once: measures, groupings and panes. Plans, limits, parameters and views follow."""
