"""Visitors who see each failed request, and the app that they visit."""
