"""What can be asked over HTTP: one router per subject, made from what it needs."""
