"""Side-by-side timing against the peers. Nothing here runs in the test suite's clock."""
