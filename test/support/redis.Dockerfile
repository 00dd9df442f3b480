# Stands in for the image redis:7.4-alpine, with this machine's programs: its user, its folder of data, its entry point. Like that one
# it has neither a configuration nor /var/lib/redis, which a package of Debian's has.
FROM debian:bookworm-slim
COPY redis-server redis-cli /usr/local/bin/
RUN chmod 0755 /usr/local/bin/* \
  && rm -rf /etc/redis /var/lib/redis \
  && echo redis:x:999:1000::/home/redis:/bin/false > /etc/passwd \
  && install -d -o 999 -g 1000 /data
WORKDIR /data
ENTRYPOINT ["sh", "-c", "umask 0077 && exec \"$@\"", "docker-entrypoint.sh"]
EXPOSE 6379
CMD ["redis-server"]
