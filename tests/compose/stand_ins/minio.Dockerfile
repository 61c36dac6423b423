# Stands in for MinIO's image: `minio` and `mc` as the compose file calls them, on moto's S3 server.
FROM python:3.11-slim
RUN python -m venv /opt/venv && /opt/venv/bin/pip install -q --no-cache-dir 'moto[s3]==5.2.5' 'flask-cors==6.*' 'flask==3.*'
COPY minio.py /usr/bin/minio
COPY mc.py /usr/bin/mc
RUN chmod 755 /usr/bin/minio /usr/bin/mc && install -d /data
VOLUME /data
ENTRYPOINT ["minio"]
