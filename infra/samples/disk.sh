# A sample stitch: prints how full the disk of its folder is, every five seconds, until it is told to end.
while :; do
  df -Pk . | tail -n 1
  sleep 5
done
