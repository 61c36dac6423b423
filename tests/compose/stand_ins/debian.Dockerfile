# Every stand-in is Debian with the certificates this machine trusts, for networks whose proxy has its own authority.
FROM bootstrapped
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
RUN printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' > /etc/pip.conf
