"""What ties the daemon to the system it runs on. It imports nothing of ours."""
