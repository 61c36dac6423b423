"""The gateway: takes photographs in over HTTP and tells what became of them.

An upload's way: `uploads.take` checks the bytes, strips their metadata (`metadata/`), stores them, records the analysis
and, after the commit, rings the doorbell. The answer's way: `answers.answer_of` turns a record into JSON; `waiting`
holds a request until the record changes. `app.create_app` puts the parts together and connects nothing.
"""
