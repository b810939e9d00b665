"""The networks and all that they consist of, which need torch and e3nn alone."""
