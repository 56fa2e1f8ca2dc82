// BullMQ with its limiter: a queue and a worker per endpoint, the events of a type dealt out evenly to its endpoints.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline/promises";
import { Queue, Worker } from "bullmq";

const job = JSON.parse(readFileSync(process.env.RIVAL_JOB, "utf8"));
const concurrency = job.lanes_each; // jobs that a worker has in hand
const { hostname: host, port } = new URL(job.redis_url);
const connection = { host, port: Number(port), maxRetriesPerRequest: null };

const queues = {};
const workers = [];
for (const { name, url, amount, seconds } of Object.values(job.types).flat()) {
  queues[name] = new Queue(name, { connection });
  const worker = new Worker(
    name,
    async ({ data }) => {
      const answer = await fetch(url, {
        method: "POST",
        headers: { "Content-Type": "application/json", "Idempotency-Key": data.event_id },
        body: JSON.stringify(data),
      });
      await answer.arrayBuffer();
      if (answer.status === 429) {
        await worker.rateLimit(1000 * Number(answer.headers.get("retry-after") ?? 1));
        throw Worker.RateLimitError();
      }
      if (answer.status !== 200) throw new Error(`${name} answered ${answer.status}`);
    },
    { connection, concurrency, autorun: false, limiter: { max: amount, duration: Math.round(1000 * seconds) } },
  );
  workers.push(worker);
}
await Promise.all([...Object.values(queues), ...workers].map((one) => one.waitUntilReady()));

const turns = {};
const batches = {};
for (const [event_id, event_type] of job.events) {
  const endpoints = job.types[event_type];
  const turn = (turns[event_type] = (turns[event_type] ?? -1) + 1);
  const { name } = endpoints[turn % endpoints.length];
  (batches[name] ??= []).push({ name: "send", data: { event_id, event_type }, opts: { removeOnComplete: true } });
}
await Promise.all(Object.entries(batches).map(([name, jobs]) => queues[name].addBulk(jobs)));

console.log("ready");
await createInterface({ input: process.stdin }).question("");
for (const worker of workers) worker.run();
