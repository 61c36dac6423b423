"""`make bench`: the product next to its competitors, on one machine and in one run."""
