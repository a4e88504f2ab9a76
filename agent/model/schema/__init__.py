"""What is read of objects, and refused of them. Knows of nothing but the object itself."""
