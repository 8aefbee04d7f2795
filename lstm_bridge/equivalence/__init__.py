"""How numbers are judged: a float64 oracle, a three-party verdict, and reports of it."""
