"""Rules held against the past, with the code that judges and notifies live."""
