"""Server of predictions over HTTP: uploads, a queue before the one predictor, and answers; see docs/serve.md.

The modules import FastAPI and uvicorn, of the extra `serve`; `segzoo.workflows.serve` checks that they are there.
"""
