"""Alerts and deliveries, as the API knows them: what is open, what was, and what is to be sent again."""
