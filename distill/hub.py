"""Sending a trained model to the Hub; the only door of huggingface_hub."""
