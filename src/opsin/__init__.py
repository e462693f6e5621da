"""Vision backbones equal to their papers, and one set of tools that works on all of them."""
