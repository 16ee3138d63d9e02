"""A page that Flask makes."""

from flask import Flask, request

app = Flask(__name__)


@app.get("/")
def page() -> str:
    """Say hello."""
    return f"Hello from Flask, {request.args.get('name', 'you')}. This is version 1.\n"
