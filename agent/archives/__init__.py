"""Archives that users give, read without ever being extracted, and the caps on what a source or an image may hold."""
