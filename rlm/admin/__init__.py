"""What operators ask and order, as functions that return plain documents; the CLI and the web show them.

Functions that take a store raise a StoreError if Redis does not answer.
"""
