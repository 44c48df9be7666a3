# life: does what is typed on its console, until it is told to end.
printf '#!/bin/sh\nexec busybox poweroff -f\n' >/bin/poweroff.now # what the kernel runs when it is told to shut down: there is no init to signal
chmod +x /bin/poweroff.now
mv /bin/poweroff.now /bin/poweroff
echo "guest: cpus $(grep -c ^processor /proc/cpuinfo)"
echo "guest: ready"
while read -r what text; do
	case $what in
	say) echo "guest: says $text" ;;
	off) break ;;
	reboot) reboot -f ;;
	crash) echo c >/proc/sysrq-trigger ;;
	esac
done
