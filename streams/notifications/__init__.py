"""Who is told of an alert, when, in what company, and why somebody is not: pure, but for the edges."""
