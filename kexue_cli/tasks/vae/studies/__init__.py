"""Tables of several models, each a claim of the posts: `groups` to train, `rows` to print."""
