"""Makes a qcow2 image of 1 GiB through a running cairnd and opens it: make_image.py QMP_SOCKET PATH"""

import asyncio
import os
import sys

import cairn


async def run_job(client: cairn.Client, job_id: str, options: cairn.BlockdevCreateOptions) -> None:
    """Runs a job that makes an image, to its end."""
    changes = client.events(cairn.JobStatusChangeEvent)
    await client.blockdev_create(job_id=job_id, options=options)
    async for change in changes:
        if change.id == job_id and change.status is cairn.JobStatus.CONCLUDED:
            break
    changes.close()
    job = next(job for job in await client.query_jobs() if job.id == job_id)
    await client.job_dismiss(id=job_id)
    if job.error:
        raise RuntimeError(job.error)


async def main(socket: str, path: str) -> None:
    path = os.path.abspath(path)
    async with cairn.connect(socket) as client:
        await run_job(client, "make-file", cairn.BlockdevCreateOptions_file(filename=path, size=0))
        await client.blockdev_add(cairn.BlockdevOptions_file(node_name="file0", filename=path))
        await run_job(client, "format", cairn.BlockdevCreateOptions_qcow2(file="file0", size=1 << 30))
        await client.blockdev_add(cairn.BlockdevOptions_qcow2(node_name="disk0", file="file0"))
        for node in await client.query_named_block_nodes(flat=True):
            print(node.node_name, node.drv, node.image.virtual_size)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
