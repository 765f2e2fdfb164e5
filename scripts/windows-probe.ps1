# What this Windows does when it uploads: for those who can try what we cannot (docs/kerberos.md).
#
# Uploads a small file once per way of saying who uploads, through BITS itself, and writes what came of
# each to probe-COMPUTER.txt. It changes nothing but that file and the jobs it makes, which it removes.
# On the server: `log_level = "debug"`, a location with `auth = ["negotiate", "basic"]`, and its log
# beside this file tells the rest: the line `credentials_shown` says what each request carried.
#
#   powershell -ExecutionPolicy Bypass -File windows-probe.ps1 -Url https://bits.example/probe/
#
# -Credential asks for a name and a password as well; -CertHash takes a certificate of the machine.
param(
    [Parameter(Mandatory = $true)][string]$Url,
    [switch]$Credential,
    [string]$CertHash,
    [int]$Seconds = 120
)
$ErrorActionPreference = 'Stop'
Import-Module BitsTransfer
$report = Join-Path (Get-Location) "probe-$env:COMPUTERNAME.txt"
function Write-Line([string]$line) { Write-Host $line; Add-Content -Path $report -Value $line -Encoding UTF8 }

Set-Content -Path $report -Value "bitsd probe, $(Get-Date -Format o)" -Encoding UTF8
Write-Line "Windows: $([Environment]::OSVersion.VersionString), PowerShell $($PSVersionTable.PSVersion)"
Write-Line "Account: $([Security.Principal.WindowsIdentity]::GetCurrent().Name)"
Write-Line "qmgr.dll: $((Get-Item "$env:SystemRoot\System32\qmgr.dll").VersionInfo.FileVersion)"
$lm = Get-ItemProperty -Path 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\BITS' -Name UseLMCompat -ErrorAction SilentlyContinue
Write-Line "UseLMCompat: $(if ($lm) { $lm.UseLMCompat } else { 'not set' })"

# 12 MiB: more than one fragment where BITS makes them small, and quick all the same.
$source = Join-Path $env:TEMP "bitsd-probe.bin"
$bytes = New-Object byte[] (12MB)
(New-Object Random 1).NextBytes($bytes)
[IO.File]::WriteAllBytes($source, $bytes)

function Try-Upload([string]$name, [hashtable]$more) {
    $target = $Url.TrimEnd('/') + "/$env:COMPUTERNAME-$name-$(Get-Date -Format yyyyMMddHHmmss).bin"
    Write-Line ""
    Write-Line "== $name -> $target"
    $job = $null
    try {
        $job = Start-BitsTransfer -Source $source -Destination $target -TransferType Upload -Asynchronous -DisplayName "bitsd probe $name" @more
        $end = (Get-Date).AddSeconds($Seconds)
        $last = ''
        do {
            Start-Sleep -Milliseconds 500
            $state = "$($job.JobState) $($job.BytesTransferred)/$($job.BytesTotal)"
            if ($state -ne $last) { Write-Line "$(Get-Date -Format HH:mm:ss.fff) $state"; $last = $state }
        } while ($job.JobState -notin 'Transferred', 'Error', 'TransientError', 'Suspended' -and (Get-Date) -lt $end)
        if ($job.JobState -like '*Error') {
            Write-Line "error: $($job.ErrorDescription) context: $($job.ErrorContextDescription)"
        }
        if ($job.JobState -eq 'Transferred') { Complete-BitsTransfer -BitsJob $job; $job = $null; Write-Line 'completed' }
    } catch {
        Write-Line "failed: $($_.Exception.Message) (0x$('{0:X8}' -f $_.Exception.HResult))"
    } finally {
        if ($job) { Remove-BitsTransfer -BitsJob $job }
    }
}

Try-Upload 'none' @{}
Try-Upload 'negotiate' @{ Authentication = 'Negotiate'; UseStoredCredential = 'None' }
if ($Credential) {
    $asked = Get-Credential -Message "for $Url"
    Try-Upload 'basic' @{ Authentication = 'Basic'; Credential = $asked }
    Try-Upload 'negotiate-as' @{ Authentication = 'Negotiate'; Credential = $asked }
}
if ($CertHash) {
    $hash = [byte[]]($CertHash -replace '[^0-9A-Fa-f]' -split '(..)' -ne '' | ForEach-Object { [Convert]::ToByte($_, 16) })
    Try-Upload 'certificate' @{ CertStoreLocation = 'LocalMachine'; CertStoreName = 'MY'; CertHash = $hash }
}
Remove-Item $source -ErrorAction SilentlyContinue
Write-Line ""
Write-Line "Thank you. Please send $report and the server's log of these minutes."
