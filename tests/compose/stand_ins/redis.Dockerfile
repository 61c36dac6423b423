# Stands in for the redis image: Debian's Redis 7.0 under the same user, with the same folder.
FROM stand-in-debian
RUN groupadd --system --gid 999 redis && useradd --system --uid 999 --gid redis redis \
    && apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends redis-server \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o redis -g redis /data
WORKDIR /data
VOLUME /data
CMD ["redis-server"]
