"""Reactions to events, one role per file. Handlers never see each other."""
