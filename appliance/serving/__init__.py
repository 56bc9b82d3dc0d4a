"""Chat for every protocol: template, R1 profile, context count, admission, and the split of what the model writes.

Knows engines and their values, but neither HTTP nor files: ``appliance.api`` translates protocols into ``ChatRequest``.
"""
