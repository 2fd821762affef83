"""What the API answers: one model per answer, with units in the descriptions."""
