"""Celery with its rate limit, which applies per worker: a queue and a worker per endpoint, events dealt evenly.

Workers: celery --app benchmarks.rivals.with_celery worker --queues ENDPOINT --pool gevent
"""

from __future__ import annotations

import itertools

from celery import Celery

from benchmarks.rivals.job import Job, await_go, call

job = Job.read()
app = Celery("rival", broker=job.redis_url)
app.conf.update(
    task_ignore_result=True,
    worker_concurrency=job.lanes_each,
    worker_prefetch_multiplier=0,
    broker_connection_retry_on_startup=True,
)

#: All endpoints have one limit here; the rate is in tasks a second.
RATE = next(one.amount / one.seconds for one in job.addresses.values())


@app.task(bind=True, name="send", rate_limit=RATE, max_retries=None)
def send(self, endpoint: str, event_id: str, type_name: str) -> None:
    if seconds := call(job.addresses[endpoint], event_id, type_name):
        raise self.retry(countdown=seconds)


def main() -> None:
    turns = {name: itertools.cycle(addresses) for name, addresses in job.types.items()}
    app.connection_for_write().ensure_connection()
    await_go()
    for event_id, type_name in job.events:
        endpoint = next(turns[type_name]).name
        send.apply_async((endpoint, event_id, type_name), queue=endpoint)


if __name__ == "__main__":
    main()
