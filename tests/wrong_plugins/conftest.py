"""Wrong plugins are no tests, and must not be imported by the collection of tests."""

collect_ignore_glob = ["*"]
