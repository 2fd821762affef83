"""Rules, and the alerts that come of judging closed panes by them."""
