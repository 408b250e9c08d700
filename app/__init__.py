"""Deputy: the authorization server for AI agents that act for people."""
