"""Tables of several models, each a claim of the posts: `groups` says what is trained, `rows` what
is printed.
"""
