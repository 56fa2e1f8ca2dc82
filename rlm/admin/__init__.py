"""What operators ask and order, as functions that return plain documents: each face shows what they return."""
