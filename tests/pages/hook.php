<?php
// The same from the command line: php hook.php curl|stream http://EDGE tags|soft|url VALUE

declare(strict_types=1);
require __DIR__ . '/invalidate.php';

[, $transport, $edge, $what, $value] = $argv;
[$status, $body] = invalidate($transport, $edge, $what, $value);
echo $status, ' ', $body, "\n";
exit($status < 400 ? 0 : 1);
